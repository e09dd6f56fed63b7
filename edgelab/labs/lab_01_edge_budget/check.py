"""The self-checks of lab 01."""

from collections.abc import Callable

from edgelab.course.check import Case, Mistake, check_function, exercise
from edgelab.i18n import _

LAB = "01_edge_budget"


def weight_bytes(answer: Callable) -> None:
    """Check `weight_bytes(params, bits)`."""
    with exercise(LAB, "weight-bytes"):
        cases = [
            Case((1000, 32), 4000),
            Case((1000, 8), 1000),
            Case((1001, 4), 501),
            Case((3, 1), 1),
            Case((1_229_136, 32), 4_916_544),
            Case((50_000_001, 16), 100_000_002),
        ]
        mistakes = [
            Mistake(lambda params, bits: params * bits, _("That is in bits. A byte has 8 of them.")),
            Mistake(lambda params, bits: params * bits // 8, _("You round down, and lose the last bits. Round up.")),
            Mistake(
                lambda params, bits: params * bits / 8,
                _("A file has a whole number of bytes: round up, for instance with math.ceil."),
            ),
            Mistake(
                lambda params, bits: params * bits // 8 + 1,
                _("You always add a byte. Round up only where bits are left over, as math.ceil does."),
            ),
            Mistake(
                lambda params, bits: params * (bits // 8),
                _("Fewer than 8 bits come to no bytes at all that way. Multiply first, and divide by 8 then."),
            ),
            Mistake(
                lambda params, bits: params * -(-bits // 8),
                _("You round every parameter up to whole bytes. Bits are packed without gaps: round once, at the end."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def conv_macs(answer: Callable) -> None:
    """Check `conv_macs(c_in, c_out, kernel, height, width, groups=1)`."""
    with exercise(LAB, "conv-macs"):
        cases = [
            Case((3, 64, 3, 32, 32), 1_769_472),
            Case((64, 128, 1, 16, 16), 2_097_152),
            Case((32, 32, 3, 14, 28, 32), 112_896),
            Case((8, 16, 5, 10, 10, 2), 160_000),
            Case((27, 21, 3, 85, 77), 33_399_135),
        ]
        mistakes = [
            Mistake(
                lambda c_in, c_out, kernel, height, width, groups=1: c_out * height * width * c_in // groups * kernel,
                _("The kernel has k × k places, not k."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width, groups=1: c_out * height * width * c_in * kernel**2,
                _("With groups, an output looks at c_in / groups channels only."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width, groups=1: (
                    c_out // groups * (c_in // groups) * height * width * kernel**2
                ),
                _("You divide by the groups twice. Each of the c_out outputs looks at c_in / groups channels."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width, groups=1: (
                    c_out * height * width * ((c_in // groups) * kernel**2 + 1)
                ),
                _("You count the bias. It is added, and not multiplied: no MAC."),
            ),
            *(
                Mistake(
                    lambda c_in, c_out, kernel, height, width, groups=1, side=side: (
                        c_out * side(height, width) ** 2 * (c_in // groups) * kernel**2
                    ),
                    _("The output need not be square: it has height × width positions."),
                )
                for side in (min, max, lambda height, width: height, lambda height, width: width)
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width, groups=1: (
                    2 * c_out * height * width * (c_in // groups) * kernel**2
                ),
                _("That is twice too much: one MAC is a multiplication together with its addition."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width, groups=1: c_out * (c_in // groups) * kernel**2,
                _("Those are the weights. Each of them is used once for every output position, height × width times."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def inference_energy(answer: Callable) -> None:
    """Check `inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte)`."""
    with exercise(LAB, "inference-energy"):
        cases = [
            Case((1_000_000, 0, 4.6, 162.5), 4.6e-6),
            Case((0, 1_000_000, 4.6, 162.5), 1.625e-4),
            Case((2_000_000, 500_000, 0.3, 162.5), 8.185e-5),
        ]
        mistakes = [
            Mistake(
                lambda macs, moved, mac, byte: macs * mac + moved * byte,
                _("That is in picojoules. A picojoule is 1e-12 J."),
            ),
            Mistake(
                lambda macs, moved, mac, byte: (macs * mac + moved * byte) * 1e-9,
                _("That takes pJ for nanojoules. A picojoule is 1e-12 J."),
            ),
            Mistake(
                lambda macs, moved, mac, byte: (macs * mac + moved * byte) * 1e-6,
                _("That is in microjoules. Return joules: a picojoule is 1e-12 J."),
            ),
            Mistake(
                lambda macs, moved, mac, byte: (macs * mac + moved * byte) / 1e-12,
                _("That divides by 1e-12. A picojoule is a small part of a joule: multiply."),
            ),
            Mistake(lambda macs, moved, mac, byte: moved * byte * 1e-12, _("Computing costs energy as well.")),
            Mistake(lambda macs, moved, mac, byte: macs * mac * 1e-12, _("Moving the bytes costs energy as well.")),
            Mistake(
                lambda macs, moved, mac, byte: (macs * mac + 8 * moved * byte) * 1e-12,
                _("pj_per_byte is for a byte already: there are no bits to count."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def edge_or_cloud(answer: Callable) -> None:
    """Check `edge_or_cloud(compute_joules, image_bytes, joules_per_bit)`."""
    with exercise(LAB, "edge-or-cloud"):
        cases = [
            Case((1e-3, 3000, 1e-7), ("edge", 1e-3)),
            Case((1e-3, 3000, 1e-8), ("cloud", 2.4e-4)),
            Case((0.02, 30_000, 1e-7), ("edge", 0.02)),
            Case((0.03, 30_000, 1e-7), ("cloud", 0.024)),
        ]
        mistakes = [
            Mistake(
                lambda compute, size, bit: ("edge", compute) if compute < size * bit else ("cloud", size * bit),
                _("The radio counts bits, and a byte has 8 of them."),
            ),
            Mistake(
                lambda compute, size, bit: "edge" if compute < 8 * size * bit else "cloud",
                _("Return two things: the place, and the joules that the device spends there."),
            ),
            Mistake(
                lambda compute, size, bit: ("cloud", 8 * size * bit) if compute < 8 * size * bit else ("edge", compute),
                _("That is the dearer of the two. Which one costs the device less?"),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def moved_home(answer: Callable) -> None:
    """Check `moved_home(devices)`."""
    with exercise(LAB, "moved-home"):
        devices = [
            ("watch", 0.05, 0.02, 0.01),
            ("camera", 0.05, 0.02, 0.03),
            ("phone", 0.005, 0.002, 0.01),
            ("drone", 0.09, 0.04, 0.06),
            ("tag", 0.01, 0.03, 0.02),
        ]
        cases = [
            Case((devices,), ["camera", "drone"]),
            Case((devices[:1] + devices[2:3],), []),
            Case((devices[::-1],), ["drone", "camera"]),
        ]
        mistakes = [
            Mistake(
                lambda devices: [name for name, _before, after, sending in devices if after < sending],
                _("Some of those computed for themselves before. Whose answer changes?"),
            ),
            Mistake(
                lambda devices: [name for name, before, _after, sending in devices if before > sending],
                _("Those sent the picture away before. What do they do afterwards?"),
            ),
            Mistake(
                lambda devices: [name for name, before, after, _sending in devices if after < before],
                _("Those became cheaper. Cheaper than sending, too?"),
            ),
            Mistake(
                lambda devices: [name for name, before, after, sending in devices if before < sending <= after],
                _("That is the other way: from edge to cloud."),
            ),
            Mistake(
                lambda devices: [
                    name for name, before, after, sending in devices if (before < sending) != (after < sending)
                ],
                _("One of those goes from edge to cloud. Ask for the direction, too."),
            ),
            Mistake(
                lambda devices: len([1 for _name, before, after, sending in devices if after < sending <= before]),
                _("That is how many there are. Return their names."),
            ),
            Mistake(
                lambda devices: next(
                    (name for name, before, after, sending in devices if after < sending <= before), None
                ),
                _("That is the first of them. Return a list of all: it may be empty, or hold several."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)
