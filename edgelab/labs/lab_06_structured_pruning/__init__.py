"""Lab 06: channels that are gone, which of them go together, and what a processor makes of the rest."""
