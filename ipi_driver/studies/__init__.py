"""Reproductions of publications, through the public interface of the package."""
