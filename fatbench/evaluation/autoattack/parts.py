"""Which of AutoAttack's attacks make sense for how many classes."""

TARGETS = 9  # wrong classes that the standard's targeted attacks try
_STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")


def parts_for(num_classes: int) -> tuple[tuple[str, ...], str]:
    """Return the attacks that make sense for so many classes, and what to call that selection.

    The targeted APGD uses the difference-of-logits ratio, which needs four classes; the untargeted one needs three.
    """
    if num_classes == 2:
        return ("apgd-ce", "fab-t", "square"), "custom(2 classes)"
    if num_classes == 3:
        return ("apgd-ce", "apgd-dlr", "fab-t", "square"), "custom(3 classes)"
    if num_classes <= TARGETS:
        return _STANDARD, f"standard({num_classes - 1} targets)"
    return _STANDARD, "standard"
