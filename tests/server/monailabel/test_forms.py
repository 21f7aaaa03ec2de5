from __future__ import annotations

from email import message_from_bytes
from email.policy import HTTP

from isoline.server.monailabel.forms import multipart


def test_an_answer_is_a_form_of_two_parts() -> None:
    content = bytes(range(256)) + b"\r\n--"
    body, content_type = multipart(b'{"a":1}', "0f.png", content, "image/png")
    read = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=HTTP)
    params, image = read.iter_parts()
    assert [each.get_param("name", header="Content-Disposition") for each in (params, image)] == [
        "params",
        "image",
    ]
    # clients take for the mask what has a file name
    assert [params.get_filename(), image.get_filename()] == [None, "0f.png"]
    assert [params.get_content_type(), image.get_content_type()] == [
        "application/json",
        "image/png",
    ]
    assert params.get_payload(decode=True) == b'{"a":1}'
    assert image.get_payload(decode=True) == content
