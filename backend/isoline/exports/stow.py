"""Storing one instance in a DICOMweb archive (PS3.18, 10.5), once."""

from __future__ import annotations

import requests
from pydicom.dataset import Dataset

from isoline.errors import NotStored
from isoline.sources.archive import Archive
from isoline.sources.dicomweb import client

_REASONS = {
    0x0110: "it failed while storing",
    0x0122: "it does not keep this kind of object (SOP class)",
    0x0124: "this account may not store",
    0xA700: "it is out of resources",
    0xA900: "it finds that the object does not match its kind (SOP class)",
    0xC000: "it cannot understand the object",
    0xC122: "it does not take the transfer syntax",
}
"""By FailureReason: PS3.18 table I.2-2, and PS3.4 annex B.2.3."""
_FAMILIES = {0xA7: 0xA700, 0xA9: 0xA900, 0xC0: 0xC000}
_REASON_LENGTH = 200


def store(archive: Archive, instance: Dataset) -> bool:
    """Store `instance` unless the archive has it; return whether it is new there.

    Raises NotStored, with what the archive said.
    """
    if _has(archive, instance):
        return False
    session = client(archive)
    # a large message is sent as it is read: it cannot be sent twice
    session.set_http_retry_params(retry=False)
    try:
        session.store_instances([instance])
    except requests.HTTPError as error:
        # the archive may have it by now: two callers, or an answer that was lost on the way
        if not _has(archive, instance):
            raise _refused(error) from error
        return False
    except (requests.RequestException, ValueError) as error:
        raise _silent(error) from error
    if not _has(archive, instance):
        raise NotStored(
            "the archive took the object and does not show it", "see the log of the archive"
        )
    return True


def _has(archive: Archive, instance: Dataset) -> bool:
    try:
        found = client(archive).retrieve_instance_metadata(
            instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID
        )
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == 404:
            return False
        raise _refused(error) from error
    except (requests.RequestException, ValueError) as error:
        raise _silent(error) from error
    return bool(found)


def _refused(error: requests.HTTPError) -> NotStored:
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403):
        return NotStored(
            f"the archive does not let this server store: {status}",
            "set its headers in [dicomweb] of isoline.toml",
        )
    said = _reason(error.response) if error.response is not None else ""
    return NotStored(
        f"the archive refused the object: {status}" + (f", {said}" if said else ""),
        "see the log of the archive",
    )


def _reason(answer: requests.Response) -> str:
    """Return what the body of a refusal says: a failed instance, or plain words."""
    kind = answer.headers.get("Content-Type", "")
    try:
        if "json" in kind:
            said = answer.json()
            if isinstance(said, dict) and "Message" in said:  # as Orthanc puts it
                return f"{said['Message']} {said.get('Details', '')}".strip()[:_REASON_LENGTH]
            (failed, *_) = Dataset.from_json(said).FailedSOPSequence
            code = int(failed.FailureReason)
            known = _REASONS.get(code) or _REASONS.get(_FAMILIES.get(code >> 8, 0))
            return known or f"failure reason {code:#06x}"
    except (ValueError, TypeError, AttributeError, KeyError):
        pass
    return answer.text.strip()[:_REASON_LENGTH] if kind.startswith("text/plain") else ""


def _silent(error: Exception) -> NotStored:
    if isinstance(error, requests.RequestException):
        what = f"the archive does not answer: {type(error).__name__}"
    else:
        what = f"what the archive answers is no DICOM JSON: {error}"
    return NotStored(what, "see that it is up, save again")
