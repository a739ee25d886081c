"""The page: ``python app.py [--backend torch]``, and the entry point of a Hugging Face Space."""

from ichseg.page.serve import main, run

if __name__ == "__main__":
    run(main)
