"""The catalogue: THE table of methods, and a method's name to its ready predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ichseg.errors import WeightsError
from ichseg.methods import fcm, prompted, threshold, trained
from ichseg.methods.adapter import is_hub_id
from ichseg.methods.backends import check_backend
from ichseg.methods.identity import Identity, identity_of
from ichseg.methods.method import Method
from ichseg.methods.once import Once
from ichseg.methods.weights import fetch_entries, has_place_on_hub, missing

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor

#: By name; in this order people see them, and the default is the first that has ``shown_beside`` and is here.
CATALOGUE = {
    method.name: method
    for method in (
        Method(
            "litemedsam-rslora",
            "LiteMedSAM + rsLoRA",
            "LiteMedSAM fine-tuned on head CT with a rank-stabilised low-rank adapter.",
            prompted.load,
            weights=("litemedsam", "litemedsam-rslora"),
            takes_edge=True,
            shown_beside="litemedsam",
            colour="#2fe3d3",
        ),
        Method(
            "litemedsam",
            "LiteMedSAM",
            "The public checkpoint, not tuned to hemorrhage: what the adapter is compared with.",
            prompted.load,
            weights=("litemedsam",),
            takes_edge=True,
            shown_beside="threshold",
            colour="#b48cff",
        ),
        Method(
            "medsam",
            "MedSAM (ViT-B)",
            "The full MedSAM, 1024 x 1024, not tuned to hemorrhage; slow without a GPU.",
            prompted.load,
            weights=("medsam",),
            takes_edge=True,
            colour="#ff4fe0",
        ),
        Method(
            "sam",
            "SAM (ViT-B)",
            "Segment Anything, trained on photographs, 1024 x 1024; slow without a GPU.",
            prompted.load,
            weights=("sam",),
            takes_edge=True,
            colour="#1fe06a",
        ),
        Method(
            "resattunet",
            "Residual Attention U-Net",
            "A network trained here from nothing; takes no box, its answer is cut to the box.",
            trained.load,
            weights=("resattunet",),
            takes_box=False,
            colour="#ff4d6d",
        ),
        Method(
            "drunet",
            "DR-UNet",
            "A dimension-reduction U-Net trained here; takes no box, its answer is cut to the box.",
            trained.load,
            weights=("drunet",),
            takes_box=False,
            colour="#b09a5f",
        ),
        Method(
            "unet",
            "U-Net",
            "A U-Net trained here from nothing; takes no box, its answer is cut to the box.",
            trained.load,
            weights=("unet",),
            takes_box=False,
            colour="#fff0b8",
        ),
        Method(
            "random-forest",
            "Random forest",
            "Hand-made features of each pixel; takes no box, its answer is cut to the box.",
            trained.load,
            weights=("random-forest",),
            takes_box=False,
            colour="#8fa3ad",
        ),
        Method(
            "fcm",
            "Fuzzy c-means in the box",
            "Three classes of brightness within the box; the brightest is blood.",
            fcm.load,
            colour="#6f86ff",
        ),
        Method(
            "threshold",
            "Threshold in the box",
            "Voxels above 45 HU inside the box, smoothed by a median filter, holes filled.",
            threshold.load,
            colour="#d9c2ff",
        ),
    )
}


def method_of(name: str) -> Method:
    """The row of a name: of the catalogue, or made for the folder or the hub id that the name is."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    title = Path(name).name
    if trained.is_trained_folder(Path(name)):
        return Method(name, title, "", trained.load_folder, takes_box=False)
    return Method(name, title, "", prompted.load_adapter, takes_edge=True)


def default_model() -> str:
    """The best model whose weights are here."""
    models = [name for name, method in CATALOGUE.items() if method.shown_beside]
    return next((name for name in models if available(name)[0]), models[-1])


def default_baseline() -> str:
    """What the default model is shown beside: the un-tuned model once an adapter is there."""
    return CATALOGUE[default_model()].shown_beside


def takes_edge(name: str) -> bool:
    """Whether the edge at half height (``marks.edge``) is drawn on a method's masks: on every network's with a box.

    Both panes of the page are treated alike, so that they show what the adapter gives, and not what the edge does.

    >>> [takes_edge(name) for name in ("litemedsam-rslora", "litemedsam", "resattunet", "threshold")]
    [True, True, False, False]
    """
    return method_of(name).takes_edge


def mask_identity(predictor: Predictor, *, edge: bool, refinement: bool | None = None) -> Identity:
    """The identity of a predictor's masks, with the edge at half height where that is on and the method takes it.

    ``refinement`` is as in ``identity_of``.
    """
    return identity_of(predictor, refinement=refinement, edge=edge_setting(predictor.name, edge))


def edge_setting(name: str, on: bool) -> bool | None:
    """What an identity says of the edge on a method's masks: True, or None where that step is not taken."""
    return True if on and takes_edge(name) else None


def available(name: str) -> tuple[bool, str]:
    """Whether a catalogue model can be loaded without the network, and a sentence why not."""
    method = _row(name)
    why = missing(method.weights, method.title)
    return not why, why


def fetch(name: str, tqdm_class: type[Any] | None = None) -> None:
    """Bring a catalogue model's weights from the hub into its cache, where they are not here yet.

    Args:
        name: a catalogue name.
        tqdm_class: a subclass of tqdm that shows the download's progress; the hub's own, on standard error, if None.

    Raises:
        WeightsError: an unknown name; a file that is not on the hub, or a hub that cannot be reached.

    """
    fetch_entries(_row(name).weights, tqdm_class)


def hub_hindrance(name: str) -> str:
    """Why what is missing of a catalogue model's weights cannot be fetched, as far as is known without asking the hub.

    Empty where it may be there: that the hub cannot be reached shows when it is fetched.
    """
    return "" if has_place_on_hub(_row(name).weights) else "They have no place on the hub yet."


def load_predictor(
    name: str | None = None, device: str = "auto", backend: str | None = None
) -> Predictor:
    """A ready predictor, shared by all who ask for the same one.

    Args:
        name: a catalogue name (``CATALOGUE``), a folder that holds a peft LoRA adapter of LiteMedSAM, SAM or MedSAM,
            the id ``owner/name`` of such an adapter on the Hugging Face hub, or a folder that ``train baseline`` wrote.
            None is ``default_model()``.
        device: "auto" (CUDA where there is one, else the CPU), "cpu" or "cuda".
        backend: "torch"; "openvino", which runs LiteMedSAM and its adapters on a CPU; or "auto": the faster one that is
            here. None is what the variable ICHSEG_BACKEND says, else "auto".

    Raises:
        WeightsError: an unknown name; a weight file that is absent or is not what the manifest promises.
        InputError: a device or a back end that is not here, or cannot run the model.

    """
    name = default_model() if name is None else str(name)
    asked = check_backend(backend)
    return _LOADING.get(_LOADED, (name, device, asked), lambda: _load(name, device, asked))


def load_listed(name: str) -> Predictor:
    """A predictor of the catalogue whose weights are here; for names that come from a page or from a file.

    No folder is looked into and no hub is asked, whatever the name says. Raises WeightsError for any other name, and
    where weights are absent.
    """
    if name not in CATALOGUE:
        raise WeightsError(
            f"A model here is one of {', '.join(CATALOGUE)}; got '{name[:60]}'; choose one of them."
        )
    if (name, "auto", check_backend(None)) not in _LOADED:
        ready, why = available(name)
        if not ready:
            raise WeightsError(f"{why} Fetch them in Compare, or choose another method.")
    return load_predictor(name)


def _load(name: str, device: str, backend: str) -> Predictor:
    if not Path(name).is_dir() and not is_hub_id(name):
        _row(name)
    method = method_of(name)
    return method.load(method, device, backend)


def _row(name: str) -> Method:
    if name not in CATALOGUE:
        raise WeightsError(
            f"A model is one of {', '.join(CATALOGUE)}, an adapter's folder or its hub id owner/name; got '{name}'; "
            "choose one of them."
        )
    return CATALOGUE[name]


def title_of(name: str) -> str:
    """What people call a model of the catalogue, or an adapter by its folder or hub id."""
    return CATALOGUE[name].title if name in CATALOGUE else Path(name).name


def backend_of(name: str) -> str:
    """Which back end runs a model that is loaded, for people; empty for one that is not, or that has no network."""
    predictor = _LOADED.get((name, "auto", check_backend(None)))
    return getattr(getattr(predictor, "backend", None), "title", "")


_LOADED: dict[tuple[str, str, str], Predictor] = {}
_LOADING: Once[tuple[str, str, str], Predictor] = Once()
