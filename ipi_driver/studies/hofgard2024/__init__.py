"""Learned symmetry breaking: the tests of Hofgard, Wang, Walters, Smidt, arXiv 2407.20471 (2024), done here.

A network whose filters are relaxed finds which symmetry a task breaks: the deformation of a cube, and the fields that
act on a charged particle.
"""
