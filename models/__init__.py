"""Manifests of published weights. Installed as ``squeezenet.manifests``."""
