"""Answers requests, a JSON object a line, by the Arvados Python SDK. See arvados-sdk.ts."""

import base64
import hashlib
import json
import sys

import arvados.arvfile
import arvados.collection
import arvados.config
import arvados.errors
import arvados.keep


class Api:
    """What the SDK asks of its API client where nothing is saved at an API server."""

    _rootDesc = {}
    # The tests' certificates are signed by nobody.
    insecure = True
    request_id = "req-keepgw-test"

    def __init__(self, services=(), token="none"):
        self.api_token = token
        self._services = list(services)

    def config(self):
        return {"StorageClasses": {"default": {"Default": True}}}

    def keep_services(self):
        return self

    def accessible(self):
        return self

    def execute(self, num_retries=0):
        return {"items": self._services, "items_available": len(self._services)}


def files_of(collection, path="."):
    for name in collection:
        item = collection[name]
        below = path + "/" + name
        if isinstance(item, arvados.arvfile.ArvadosFile):
            yield below, item
        else:
            yield from files_of(item, below)


def keep_client(request):
    services = request["services"]
    settings = arvados.config.settings()
    settings.pop("ARVADOS_KEEP_SERVICES", None)
    if isinstance(services, str):
        settings["ARVADOS_KEEP_SERVICES"] = services
        services = []
    api = Api(services, request.get("token", "none"))
    return arvados.keep.KeepClient(
        api_client=api, timeout=(2, 300, 1), num_retries=0, block_cache=cache()
    )


def cache():
    """A cache of this request's own, in memory: a hit would prove nothing."""
    return arvados.keep.KeepBlockCache(cache_max=256 << 20)


def reader(request, keep=None):
    api = Api()
    keep = keep or arvados.keep.KeepClient(api_client=api, block_cache=cache())
    return arvados.collection.CollectionReader(
        request["manifest"], api_client=api, keep_client=keep, num_retries=0
    )


def normalize(request):
    collection = reader(request)
    return {
        "text": collection.manifest_text(normalize=True),
        "portableDataHash": collection.portable_data_hash(),
        "files": [
            [path, [[s.locator, s.segment_offset, s.range_size] for s in item.segments()]]
            for path, item in files_of(collection)
        ],
    }


def read(request):
    collection = reader(request, keep_client(request))
    found = []
    for path, _ in files_of(collection):
        digest, size = hashlib.md5(), 0
        with collection.open(path, "rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
                size += len(data)
        found.append([path, [digest.hexdigest(), size]])
    return {"files": found}


def get(request):
    data = keep_client(request).get(request["locator"])
    return {"md5": hashlib.md5(data).hexdigest(), "size": len(data)}


def head(request):
    return {"found": bool(keep_client(request).head(request["locator"]))}


def put(request):
    data = base64.b64decode(request["data"])
    copies, classes = request["copies"], request.get("classes")
    return {"locator": keep_client(request).put(data, copies=copies, classes=classes)}


def write(request):
    collection = arvados.collection.Collection(
        api_client=Api(),
        keep_client=keep_client(request),
        num_retries=0,
        replication_desired=request["copies"],
    )
    for path, data in request["files"].items():
        with collection.open(path, "wb") as file:
            file.write(base64.b64decode(data))
    return {"manifest": collection.manifest_text()}


def locators(request):
    return {"parsed": [parsed(text) for text in request["texts"]]}


def parsed(text):
    """None for what is no locator."""
    try:
        locator = arvados.keep.KeepLocator(text)
    except ValueError:
        return None
    return {
        "hash": locator.md5sum,
        "size": locator.size,
        "hints": locator.hints,
        "signature": locator.permission_hint(),
    }


METHODS = {
    method.__name__: method
    for method in (normalize, read, get, head, put, write, locators)
}

for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = METHODS[asked["method"]](asked)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
