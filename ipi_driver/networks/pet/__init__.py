"""PET, the point-edge transformer (Pozdnyakov and Ceriotti, NeurIPS 2023), in plain PyTorch."""

from ipi_driver.networks.pet.config import PetConfig
from ipi_driver.networks.pet.network import PetNetwork

__all__ = ["PetConfig", "PetNetwork"]
