"""What one submission may take."""

from dataclasses import dataclass

MB = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of one run of a notebook; sizes are in bytes.

    Attributes:
        wall_seconds: for the whole notebook.
        cell_seconds: for one cell; it gets ten times what the reference took, where that is more.
        memory: resident, of the kernel and all that it starts. torch takes 300 MB.
        address_space: virtual, of one process. torch asks for 2 GB and uses little of it.
        processes: with their threads.
        disk: of each of the three folders that the kernel can write to; they are memory, too.
        output: of one cell.
        outputs: of all cells together.
    """

    wall_seconds: float = 600
    cell_seconds: float = 30
    memory: int = 2048 * MB
    address_space: int = 8192 * MB
    processes: int = 256
    disk: int = 256 * MB
    output: int = 2 * MB
    outputs: int = 16 * MB
