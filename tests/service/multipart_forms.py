"""Forms that clients send, and forms that the standard allows."""

CLIP = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) + b"\n--\r\n-\r"


def lines(*parts: str | bytes) -> bytes:
    return b"\r\n".join(part.encode() if isinstance(part, str) else part for part in parts)


# What clients send; {top} is the part of a field and {file} that of the clip.
CLIENTS = {
    "curl": (
        "multipart/form-data; boundary=------------------------d74496d66958873e",
        lines(
            "--------------------------d74496d66958873e",
            'Content-Disposition: form-data; name="top"', "", "3",
            "--------------------------d74496d66958873e",
            'Content-Disposition: form-data; name="file"; filename="a.mp4"',
            "Content-Type: video/mp4", "", CLIP,
            "--------------------------d74496d66958873e--", "",
        ),
    ),
    "aiohttp": (
        "multipart/form-data; boundary=4f353a2562a14d0cac5715298fe86563",
        lines(
            "--4f353a2562a14d0cac5715298fe86563",
            "Content-Type: text/plain; charset=utf-8",
            'Content-Disposition: form-data; name="top"', "", "3",
            "--4f353a2562a14d0cac5715298fe86563",
            "Content-Type: video/mp4",
            'Content-Disposition: form-data; name="file"; filename="%E5%8B%95.mp4"', "", CLIP,
            "--4f353a2562a14d0cac5715298fe86563--", "",
        ),
    ),
    "Go": (
        "multipart/form-data; boundary=" + "1f" * 30,
        lines(
            "--" + "1f" * 30,
            'Content-Disposition: form-data; name="top"', "", "3",
            "--" + "1f" * 30,
            'Content-Disposition: form-data; name="file"; filename="a\\"; name=\\"b.mp4"',
            "Content-Type: application/octet-stream", "", CLIP,
            "--" + "1f" * 30 + "--", "",
        ),
    ),
    "Java, HttpClient": (
        "multipart/form-data; charset=ISO-8859-1; boundary=-a_b-0123456789",
        lines(
            "---a_b-0123456789",
            'Content-Disposition: form-data; name="top"',
            "Content-Type: text/plain; charset=ISO-8859-1",
            "Content-Transfer-Encoding: 8bit", "", "3",
            "---a_b-0123456789",
            'Content-Disposition: form-data; name="file"; filename="a.mp4"',
            "Content-Type: application/octet-stream",
            "Content-Transfer-Encoding: BINARY", "", CLIP,
            "---a_b-0123456789--", "",
        ),
    ),
    "Java, OkHttp": (
        "multipart/form-data; boundary=6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10",
        lines(
            "--6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10",
            'Content-Disposition: form-data; name="top"', "Content-Length: 1", "", "3",
            "--6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10",
            'Content-Disposition: form-data; name="file"; filename="a.mp4"',
            "Content-Type: video/mp4", f"Content-Length: {len(CLIP)}", "", CLIP,
            "--6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10--", "",
        ),
    ),
    ".NET": (
        'multipart/form-data; boundary="6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10"',
        lines(
            "--6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Disposition: form-data; name=top", "", "3",
            "--6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10",
            "Content-Disposition: form-data; name=file; filename=a.mp4; filename*=utf-8''a.mp4", "",
            CLIP,
            "--6d1f8e1e-0a5b-4a55-9d0b-5c3f2f0c2f10--", "",
        ),
    ),
    "a browser": (
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        lines(
            "------WebKitFormBoundary7MA4YWxkTrZu0gW",
            'Content-Disposition: form-data; name="top"', "", "3",
            "------WebKitFormBoundary7MA4YWxkTrZu0gW",
            'Content-Disposition: form-data; name="file"; filename="a%22b\\.mp4"',
            "Content-Type: video/mp4", "", CLIP,
            "------WebKitFormBoundary7MA4YWxkTrZu0gW--", "",
        ),
    ),
    "a generated client": (
        "multipart/form-data; boundary=+++",
        lines(
            "--+++",
            'Content-Disposition: form-data; name="file"', "Content-Type: video/mp4", "", CLIP,
            "--+++",
            'Content-Disposition: form-data; name="top"', "Content-Type: text/plain", "", "3",
            "--+++--", "",
        ),
    ),
}  # fmt: skip

HEAD = 'Content-Disposition: form-data; name="file"; filename="a.mp4"'
FORM = lines("--b", 'Content-Disposition: form-data; name="top"', "", "3", "--b", HEAD, "", CLIP)

# Legal by RFC 2046 or 7578, though no client here sends them.
LEGAL = {
    "a preamble": b"This is a multi-part message in MIME format.\r\n" + FORM + b"\r\n--b--\r\n",
    "an empty line before": b"\r\n" + FORM + b"\r\n--b--\r\n",
    "a preamble of many lines": b"--\r\n--a\r\n--bb\r\n -b\r\n" * 50 + FORM + b"\r\n--b--\r\n",
    "no break after the last boundary": FORM + b"\r\n--b--",
    "an epilogue": FORM + b"\r\n--b--\r\nGood bye.\r\n--b\r\n\r\n--b--",
    "a long epilogue": FORM + b"\r\n--b--\r\n" + b"\0" * 50_000,
    "blanks behind boundaries": FORM.replace(b"--b\r\n", b"--b \t \r\n") + b"\r\n--b-- \t\r\n",
    "headers in several lines": FORM.replace(
        b"form-data; name", b"form-data;\r\n\t name"
    ) + b"\r\n--b--",
    "names of headers in other case": FORM.replace(
        b"Content-Disposition: form-data", b"CONTENT-DISPOSITION :Form-Data"
    ) + b"\r\n--b--\r\n",
    "names without quotes": FORM.replace(b'"top"', b"top").replace(b'"file"', b"file")
    + b"\r\n--b--\r\n",
    "other headers": FORM.replace(
        b"--b\r\n", b"--b\r\nX-Name: 1\r\nContent-ID: <a@b>\r\nContent-Transfer-Encoding: 7bit\r\n"
    ) + b"\r\n--b--\r\n",
    "a name with the word in it": FORM.replace(b"a.mp4", b"form-data; name=x.mp4")
    + b"\r\n--b--\r\n",
    "a line that begins like the boundary": lines(
        "--b", 'Content-Disposition: form-data; name="top"', "", "3", "--b", HEAD, "", CLIP, "--b--"
    ),
}  # fmt: skip
