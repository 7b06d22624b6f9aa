"""Answers of the gateway itself, in the shape of OpenAI's."""

import json

from understudy.gateway.calls import Refused, Send


def error_body(status: int, code: str, message: str) -> bytes:
    """An error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}).encode()


def error_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """What goes with it."""
    length = str(len(body)).encode()
    return [(b"content-type", b"application/json"), (b"content-length", length)]


async def refuse(send: Send, refused: Refused) -> None:
    """Send an error."""
    body = error_body(refused.status, refused.code, str(refused))
    headers = error_headers(body)
    if refused.ends:
        headers.append((b"connection", b"close"))
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="understudy gateway"'))
    if refused.status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
