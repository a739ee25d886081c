"""What a scanner sent, as a volume in Hounsfield units on a known grid."""
