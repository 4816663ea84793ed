"""What OpenAPI tells of the routes for files."""

from __future__ import annotations

from hypha_gateway.http.openapi import Answer, Body, Operation, Parameter
from hypha_gateway.http.openapi.schemas import reference

__all__ = [
    "ARTIFACT",
    "ARTIFACTS",
    "ARTIFACT_FILE",
    "ARTIFACT_ROOT",
    "CHILDREN",
    "COMPLETE_UPLOAD",
    "CREATE_UPLOAD",
    "DELETE_FILE",
    "PUT_FILE",
    "S3",
    "SEARCH",
    "VIEW",
    "WORKSPACE_FILE",
    "WORKSPACE_ROOT",
    "ZIP",
    "ZIP_FILES",
]

_TAG = "files"
_BOOLEAN = {"type": "boolean"}
_INTEGER = {"type": "integer"}

_FAILURES = {
    404: Answer.error("There is no such workspace, artifact or file, or this server keeps no files"),
    409: Answer.error("Something else has been changed meanwhile, or stands in the way"),
    500: Answer.error("The artifacts service failed"),
    501: Answer.error("Not offered by this server"),
    502: Answer.error("The store gave no usable answer"),
    503: Answer.error("The store or the artifacts service is not available; try again"),
    504: Answer.error("The artifacts service does not answer"),
}
_FILE_ANSWERS = {
    200: Answer("The file, or what a folder holds", {"*/*": {}, "application/json": {}}),
    206: Answer("A part of the file", {"*/*": {}}, {"Content-Range": "which part, of how many bytes"}),
    304: Answer("It is what the caller has"),
    307: Answer.redirect("The store has it, and hands it out itself"),
    412: Answer.error("It is not what the caller expects"),
    416: Answer.error("The file has no such range"),
    **_FAILURES,
}

_TOKEN = Parameter("token", "a token, in place of the header; also one for this file only")
_VERSION = Parameter("version", "name of a version; default: the latest. `stage`: the draft")
_SILENT = Parameter("silent", "do not count this", _BOOLEAN)
_STAGE = Parameter("stage", "the draft", _BOOLEAN)
_RANGE = Parameter("Range", "a part of the file: `bytes=0-99`", where="header")
_ADDRESS = (
    Parameter("use_proxy", "through this server, or by a redirect to the store", _BOOLEAN),
    Parameter("use_local_url", "addresses as this machine knows them"),
    Parameter("expires_in", "seconds that an address is good", _INTEGER),
)
_PAGE = (
    Parameter("limit", "how many at most", _INTEGER),
    Parameter("offset", "how many to pass over", _INTEGER),
)
_LISTING = (
    Parameter("keywords", "words that the manifest holds, separated by commas"),
    Parameter("filters", "conditions, as a JSON map"),
    Parameter("mode", "`AND`: all of them, `OR`: any"),
    *_PAGE,
    Parameter("order_by", "field, with `<` or `>` at its end for ascending or descending"),
    Parameter("pagination", "answer with `{items, total, offset, limit}`", _BOOLEAN),
    Parameter("stage", "`true`: drafts, `all`: these, too"),
)

_LIST = Answer.json("Artifacts, or a page of them", {"type": ["array", "object"]})
_ARTIFACT = reference("Artifact")

ARTIFACTS = Operation(
    "The artifacts of a workspace that are in no collection",
    {200: _LIST, **_FAILURES}, parameters=(*_LISTING, _SILENT), tag=_TAG, token=True,
)  # fmt: skip
SEARCH = Operation(
    "Search all artifacts of a workspace", {200: _LIST, **_FAILURES}, parameters=_LISTING, tag=_TAG, token=True
)
CHILDREN = Operation(
    "The artifacts in a collection",
    {200: _LIST, **_FAILURES}, parameters=(*_LISTING, _SILENT), tag=_TAG, token=True,
)  # fmt: skip
ARTIFACT = Operation(
    "One artifact",
    {200: Answer.json("The artifact", _ARTIFACT), **_FAILURES},
    parameters=(_VERSION, _SILENT, _STAGE),
    tag=_TAG,
    token=True,
)
ARTIFACT_ROOT = Operation(
    "What is in the root of an artifact",
    {200: Answer.json("Its files and folders", {"type": ["array", "object"]}), **_FAILURES},
    parameters=(_VERSION, _STAGE, _SILENT, _TOKEN, *_PAGE, *_ADDRESS),
    tag=_TAG,
    token=True,
)
ARTIFACT_FILE = Operation(
    "A file of an artifact; a folder, where the path ends with a slash",
    _FILE_ANSWERS,
    parameters=(_VERSION, _STAGE, _SILENT, _TOKEN, *_PAGE, *_ADDRESS, _RANGE),
    tag=_TAG,
    token=True,
)
PUT_FILE = Operation(
    "Put a file",
    {
        200: Answer(
            "The store has it", {"application/json": reference("Done")}, {"ETag": "what the store calls its bytes"}
        ),
        307: Answer.redirect("The store takes it itself"),
        **_FAILURES,
    },
    description="Into the draft of the artifact. The body may be as long as a file may be, with a length or without.",
    parameters=(
        _TOKEN,
        Parameter("download_weight", "how much a download counts", {"type": "number"}),
        *_ADDRESS,
    ),
    body=Body("The bytes", {"*/*": {}}),
    tag=_TAG,
    token=True,
)
CREATE_UPLOAD = Operation(
    "Begin an upload in parts",
    {
        200: Answer.json(
            "Its id, and an address for each part", {"type": "object", "required": ["upload_id", "parts"]}
        ),
        422: Answer.error("There cannot be so many parts"),
        **_FAILURES,
    },
    parameters=(
        Parameter("path", "where the file is to be"),
        Parameter("part_count", "how many parts, from 1 to 10,000", _INTEGER),
        Parameter("download_weight", "how much a download counts", {"type": "number"}),
        *_ADDRESS,
    ),
    tag=_TAG,
    token=True,
)
COMPLETE_UPLOAD = Operation(
    "Make one file of the parts of an upload",
    {
        200: Answer.json("The file is there", reference("Done")),
        422: Answer.error("The parts make no sense"),
        **_FAILURES,
    },
    body=Body("`{upload_id, parts: [{part_number, etag}]}`", {"application/json": {"type": "object"}}),
    tag=_TAG,
    token=True,
)
ZIP = Operation(
    "Files of an artifact as one archive",
    {**_FILE_ANSWERS, 200: Answer("The archive", {"application/zip": {}})},
    parameters=(Parameter("file", "path of a file, as often as wanted; none: all files"), _VERSION, _SILENT, _TOKEN),
    tag=_TAG,
    token=True,
)
ZIP_FILES = Operation(
    "A file, or a folder, inside a ZIP file of an artifact",
    _FILE_ANSWERS,
    description="The path may go on with `/~/` and the path inside, in place of the parameter `path`.",
    parameters=(Parameter("path", "path inside the ZIP file; a folder ends with a slash"), _VERSION, _STAGE, _TOKEN),
    tag=_TAG,
    token=True,
)
VIEW = Operation(
    "An artifact as a web site",
    _FILE_ANSWERS,
    description="Pages run in a sandbox: with an origin of their own, and without the cookies of this server.",
    parameters=(_VERSION, _STAGE, _TOKEN),
    tag=_TAG,
    token=True,
)
WORKSPACE_ROOT = Operation(
    "What is in the root of a workspace's files",
    {200: Answer.json("Its files and folders", {"type": "object"}), **_FAILURES},
    parameters=(Parameter("max_length", "how many at most", _INTEGER),),
    tag=_TAG,
    token=True,
)
WORKSPACE_FILE = Operation(
    "A file of a workspace; a folder, where the path ends with a slash",
    _FILE_ANSWERS,
    parameters=(Parameter("max_length", "how many at most", _INTEGER), _TOKEN, _RANGE),
    tag=_TAG,
    token=True,
)
DELETE_FILE = Operation(
    "Delete a file of a workspace; all of a folder, where the path ends with a slash",
    {200: Answer.json("It is not there any more", reference("Done")), **_FAILURES},
    tag=_TAG,
    token=True,
)
_XML: dict[str, dict[str, object]] = {"application/xml": {}, "application/json": {}}
_S3_FAILURES = {
    status: Answer(answer.description, _XML)
    for status, answer in {
        **_FAILURES,
        400: Answer.error("The request cannot be understood"),
        401: Answer.error("The signature is no good"),
        403: Answer.error("The signature is no good, or does not allow this"),
        405: Answer.error("Not with this method"),
        408: Answer.error("The body came too slowly"),
        411: Answer.error("The body has no length"),
        412: Answer.error("It is not what the caller expects"),
        413: Answer.error("The body is too large"),
        416: Answer.error("The file has no such range"),
    }.items()
}
S3 = Operation(
    "The S3 interface",
    {
        **_FILE_ANSWERS,
        200: Answer("As S3 answers", {"*/*": {}}),
        204: Answer("It is not there any more"),
        **_S3_FAILURES,
    },
    description="Requests are signed as AWS signs them, in a header or in the query; no token is needed.",
    tag=_TAG,
)
