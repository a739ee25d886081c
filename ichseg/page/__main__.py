"""``python -m ichseg.page``: the same page as app.py's; ``ichseg page`` runs this."""

from ichseg.page.serve import main, run

if __name__ == "__main__":
    run(main)
