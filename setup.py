"""The one thing pyproject.toml cannot say: models/ is installed inside the squeezenet package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["caffe2torch*", "squeezenet*"]), "squeezenet.manifests"],
    package_dir={"squeezenet.manifests": "models"},
)
