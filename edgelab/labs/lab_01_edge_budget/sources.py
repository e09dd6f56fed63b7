"""The devices' figures name their sources in English; here is what such a source says in the learner's language.

Titles of documents and addresses stay what they are: only the words around them are translated, part by part.
"""

from edgelab.i18n import N_, language, translator

# Longer parts first, where one begins like another.
PARTS = (
    N_("theoretical peak, clock x cores x MACs per cycle: "),
    N_("theoretical peak of the external flash, where the weights lie: "),
    N_("through a cache (the on-chip SRAM gives one core 240 MHz x 128 bits)"),
    N_("theoretical peak of the AXI bus: "),
    N_("theoretical peak of LPDDR5: "),
    N_("theoretical peak: one 32-bit load a cycle, "),
    N_("SMLAD: two 16-bit products a cycle, int8 widened first"),
    N_("SMLAD: two 16-bit products, once a cycle at best"),
    N_("VMUL 1 cycle + VADD 1 cycle"),
    N_("EE.VMULAS.S8: a 128-bit vector a cycle"),
    N_("one multiply-accumulate a cycle, "),
    N_("Arm publishes no timings for this core, see "),
    N_("one 128-bit FMLA a cycle at best"),
    N_("one 128-bit FMLA a cycle"),
    N_("two 128-bit FMLA a cycle"),
    N_("four 128-bit FMLA a cycle"),
    N_("SMLAL, no dot product in Armv8.0"),
    N_("two SDOT of 16 products"),
    N_("four SDOT of 16 products"),
    N_("the chip alone, CPU running CoreMark from flash, DC/DC: "),
    N_("the chip alone, measured: "),
    N_("the chip alone, both cores running 128-bit loads at 240 MHz, radio and peripherals off: "),
    N_("estimate for the chip alone, as if the current grew with the clock alone: "),
    N_("typical in run mode with the peripherals off, "),
    N_("reference results (Banbury et al., "),
    N_("ResNet-8 in int8 on a NUCLEO-L4R5ZI"),
    N_(" for each inference of "),
    N_("8 MiB of external quad SPI flash, "),
    N_("on-chip SRAM: "),
    N_("in several parts, the largest 512 KiB: "),
    N_("a 32 GB microSD card, as Raspberry Pi recommends for its system, "),
    N_("the 4 GB model: "),
    N_("measured at the wall, four cores busy: "),
    N_("measured at the wall, all cores solving a dense linear system (HPL): "),
    N_("measured, four cores busy: "),
    N_("measured: memcpy "),
    N_(", read and written"),
    N_("Pixel 6 tech specs, the smaller model, "),
    N_("estimate, not a measurement: about what a phone can shed for long. "),
    N_("The chip draws more until it is hot and slows down, as this article shows: "),
    N_("current consumption, compounded: CPU running and radio sending at 0 dBm"),
    N_("8.1 mA at 3 V"),
    N_("throughput 702.8 kbit/s of notifications"),
    N_("power 132.86 mW + 283.17 mW per Mbit/s sent; wake-up and tail "),
    N_("The 1 Mbit/s is an estimate, for a slow line behind the access point; over a fast one a bit costs down to "),
    N_("power 1288.04 mW + 438.39 mW per Mbit/s sent, median upload "),
    N_("; wake-up and tail "),
    N_("most of it the 11.576 s at 1060 mW for which the radio waits for more"),
    N_("vector instructions"),
    N_("the large cores of eight"),
)


def in_words(source: str) -> str:
    """Return a source, or a processor's description, in the learner's language.

    >>> in_words("on-chip SRAM: a datasheet")  # in English, as it is
    'on-chip SRAM: a datasheet'
    """
    own = translator(language())
    for part in PARTS:
        source = source.replace(part, own(part))
    return source
