"""The hospital's image archive, asked over DICOMweb: scans that come from there, and results that go back.

Off unless the operator names the archive in the environment (``settings``). ``client`` alone talks to it; ``transfer``
says what is fetched and sent. The library is imported when the archive is first asked for.
"""
