"""PET, the point-edge transformer (Pozdnyakov and Ceriotti, NeurIPS 2023), in plain PyTorch."""

from ipi_driver.potentials.pet.config import PetConfig
from ipi_driver.potentials.pet.network import PetNetwork
from ipi_driver.potentials.pet.potential import PetPotential

__all__ = ["PetConfig", "PetNetwork", "PetPotential"]
