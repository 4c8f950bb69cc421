"""PET as metatrain trains it (UPET, PET-MAD), in plain PyTorch."""

from ipi_driver.networks.metatrain_pet.config import MetatrainPetConfig
from ipi_driver.networks.metatrain_pet.network import MetatrainPetNetwork

__all__ = ["MetatrainPetConfig", "MetatrainPetNetwork"]
