// The panes are made last, and the page is ready.

setPanes(2);
root.dataset.pending = root.dataset.rough = 0;
root.dataset.live = "true";
