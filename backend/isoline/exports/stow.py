"""Storing one instance in a DICOMweb archive (PS3.18, 10.5) exactly once."""

from __future__ import annotations

import requests
from pydicom.dataset import Dataset

from isoline.errors import NotStored
from isoline.sources.archive import Archive
from isoline.sources.dicomweb import client

_REASONS = {
    0x0110: "an error occurred while storing",
    0x0122: "it does not store this kind of object (SOP class)",
    0x0124: "this account is not authorised to store",
    0xA700: "it is out of resources",
    0xA900: "the object does not match its kind (SOP class)",
    0xC000: "it cannot understand the object",
    0xC122: "it does not support the transfer syntax",
}
"""Explanations by FailureReason (PS3.18 table I.2-2 and PS3.4 annex B.2.3)."""
_FAMILIES = {0xA7: 0xA700, 0xA9: 0xA900, 0xC0: 0xC000}
_REASON_LENGTH = 200


def store(archive: Archive, instance: Dataset) -> bool:
    """Store `instance` unless the archive already has it; return whether it is new there.

    Raises NotStored with the archive's explanation.
    """
    if _has(archive, instance):
        return False
    session = client(archive)
    # a large message is streamed, so it cannot be sent twice
    session.set_http_retry_params(retry=False)
    try:
        session.store_instances([instance])
    except requests.HTTPError as error:
        # the archive may have it by now: from another caller, or because a response was lost
        if not _has(archive, instance):
            raise _refused(error) from error
        return False
    except (requests.RequestException, ValueError) as error:
        raise _silent(error) from error
    if not _has(archive, instance):
        raise NotStored(
            "the archive accepted the object but does not list it", "see the archive's log"
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
            f"the archive does not allow this server to store objects (status {status})",
            "set its headers under [dicomweb] in isoline.toml",
        )
    reason = _reason(error.response) if error.response is not None else ""
    return NotStored(
        f"the archive refused the object: {status}" + (f", {reason}" if reason else ""),
        "see the archive's log",
    )


def _reason(response: requests.Response) -> str:
    """Return the reason in the body of a refusal: that of a failed instance, or plain text."""
    kind = response.headers.get("Content-Type", "")
    try:
        if "json" in kind:
            body = response.json()
            if isinstance(body, dict) and "Message" in body:  # Orthanc's format
                return f"{body['Message']} {body.get('Details', '')}".strip()[:_REASON_LENGTH]
            (failed, *_) = Dataset.from_json(body).FailedSOPSequence
            code = int(failed.FailureReason)
            known = _REASONS.get(code) or _REASONS.get(_FAMILIES.get(code >> 8, 0))
            return known or f"failure reason {code:#06x}"
    except (ValueError, TypeError, AttributeError, KeyError):
        pass
    return response.text.strip()[:_REASON_LENGTH] if kind.startswith("text/plain") else ""


def _silent(error: Exception) -> NotStored:
    if isinstance(error, requests.RequestException):
        what = f"the archive does not respond: {type(error).__name__}"
    else:
        what = f"the archive's response is not DICOM JSON: {error}"
    return NotStored(what, "check that the archive is running, then save again")
