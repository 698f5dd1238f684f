"""The Swagger contract as pure functions: loaded, validated and compiled. No Pyramid and no aiohttp.

The gateway (`gateway/contract/`) holds requests and responses against it.
"""

from optimizely_api.contract import without_iri  # noqa: F401  # isort: skip - before what imports jsonschema
from optimizely_api.contract.load import CONTRACT, Contract, InvalidContract, Operation, load, subset
from optimizely_api.contract.validators import ResponseValidators

__all__ = ["CONTRACT", "Contract", "InvalidContract", "Operation", "ResponseValidators", "load", "subset"]
