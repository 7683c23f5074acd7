"""Requests that RFC 9110 and 9112 say something about, and the statuses they allow.

Written from the sections named; what other suites probe (Http11Probe, gunicorn's corpus,
smuggling research) is covered, nothing of theirs is copied.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "Case"]

OK = frozenset({200, 204})
BAD = frozenset({400})


@dataclass(frozen=True)
class Case:
    """`data` is sent; one answer comes, with a status of `allowed`, or none and the end."""

    name: str
    section: str
    data: bytes
    allowed: frozenset[int]
    answers: int = 1


def head(first: bytes, *lines: bytes, host: bytes | None = b"t") -> bytes:
    fields = ([b"Host: " + host] if host is not None else []) + list(lines)
    return b"\r\n".join([first, *fields, b"", b""])


def get(*lines: bytes) -> bytes:
    return head(b"GET / HTTP/1.1", *lines)


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return head(b"POST / HTTP/1.1", *lines) + body


def sized(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length:" + value, body=body)


def coded(value: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding:" + value, *lines, body=b"5\r\nhello\r\n0\r\n\r\n")


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def bad(section: str, **cases: bytes) -> list[Case]:
    return [Case(name, section, data, BAD) for name, data in cases.items()]


def good(section: str, **cases: bytes) -> list[Case]:
    return [Case(name, section, data, OK) for name, data in cases.items()]


CASES: list[Case] = [
    *bad(
        "9112 2.2", only_cr=b"GET / HTTP/1.1\rHost: t\r\r", space_line=b"   \r\n\r\n",
        space_before_field=head(b"GET / HTTP/1.1", b"X: y", host=None).replace(b"X:", b" X:"),
        noise=bytes(range(128, 256)) + b"\r\n\r\n",
    ),
    *bad(
        "9112 3", no_target=head(b"GET HTTP/1.1"),
        space_in_target=head(b"GET /a b HTTP/1.1"), tabs=head(b"GET\t/\tHTTP/1.1"),
        lower_case_method=head(b"get / HTTP/1.1"), trailing_space=head(b"GET / HTTP/1.1 "),
        long_method=head(b"M" * 100_000 + b" / HTTP/1.1"),
    ),
    Case("unknown_method", "9110 9.1", head(b"BREW / HTTP/1.1"), frozenset({400, 405, 501})),
    # A handler may take any method that its route names.
    Case("trace", "9110 9.3.8", head(b"TRACE / HTTP/1.1"), frozenset({200, 404, 405, 501})),
    # A parser may split at any white space, the RFC says: llhttp forgives more of it.
    Case("two_spaces", "9112 3", head(b"GET  / HTTP/1.1"), BAD | OK),
    Case("connect", "9110 9.3.6", head(b"CONNECT t:443 HTTP/1.1"), frozenset({400, 405, 501})),
    *bad(
        "9112 3.2", relative=head(b"GET x HTTP/1.1"), star=head(b"GET * HTTP/1.1"),
        nul=head(b"GET /\0 HTTP/1.1"), not_ascii=head("GET /é HTTP/1.1".encode()),
        overlong=head(b"GET /\xc0\xaf HTTP/1.1"), bad_authority=head(b"GET http://u@t/ HTTP/1.1"),
        no_host=head(b"GET / HTTP/1.1", host=None), empty_host=head(b"GET / HTTP/1.1", host=b""),
        host_twice=get(b"Host: t"), two_hosts=get(b"Host: u"), host_list=get(b"host: t, u"),
        host_user=head(b"GET / HTTP/1.1", host=b"u@t"), host_path=head(b"GET / HTTP/1.1",
        host=b"t/p"),
        host_bad_port=head(b"GET / HTTP/1.1", host=b"t:8o"),
    ),
    *good(
        "9112 3.2", absolute=head(b"GET http://t/x HTTP/1.1"),
        no_path=head(b"GET http://t HTTP/1.1"),
        host_port=head(b"GET / HTTP/1.1", host=b"t:8000"), ipv6=head(b"GET / HTTP/1.1",
        host=b"[::1]"),
        long_target=head(b"GET /" + b"a" * 7980 + b" HTTP/1.1"),
    ),
    Case("long_line", "9110 15.5.15", head(b"GET /" + b"a" * 100_000 + b" HTTP/1.1"),
         frozenset({414})),
    Case("options_star", "9110 9.3.7", head(b"OPTIONS * HTTP/1.1"), OK | {404}),
    *bad(
        "9112 2.3", no_minor=head(b"GET / HTTP/1"), zeros=head(b"GET / HTTP/01.01"),
        spaced=head(b"GET / HTTP/ 1.1"), lower_case=head(b"GET / http/1.1"),
        comma=head(b"GET / HTTP/1,1"), long_minor=head(b"GET / HTTP/1.10"),
        half_a_preface=b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ),
    *[Case(f"version_{v.decode()}", "9110 15.6.6", head(b"GET / HTTP/" + v), frozenset({505}))
      for v in (b"1.2", b"2.0", b"9.9", b"0.9")],
    *good("9112 2.3", old=head(b"GET / HTTP/1.0"), old_hostless=b"GET / HTTP/1.0\r\n\r\n"),
    *bad(
        "9112 5", no_name=get(b": x"), brackets=get(b"X[]: y"), no_colon=get(b"XY"),
        space_before_colon=get(b"X : y"), tab_in_name=get(b"X\tY: z"),
        not_ascii_name=get("X-é: y".encode()), fold=get(b"X: y", b" z"),
        tab_fold=get(b"X: y", b"\tz"),
        nul_value=get(b"X: y\0z"), bell=get(b"X: y\x07z"), vertical_tab=get(b"X: y\x0bz"),
        bare_cr=get(b"X: y\rz"), delete=get(b"X: y\x7fz"), two_types=get(b"Content-Type: a/b",
                                                                       b"Content-Type: c/d"),
    ),
    *good(
        "9110 5.5", empty_value=get(b"X:"), no_space=get(b"X:y"), tabs_around=get(b"X:\ty\t"),
        odd_name=get(b"!#$%&'*+.^_`|~: x"), high_bytes=get("X: é".encode()),
        underscores=get(b"Content_Length: 5"), nonsense_accept=get(b"Accept: ;;;"),
        cookies=get(b"Cookie: ===;;; =", b"Cookie: a=b"), bad_range=get(b"Range: bytes=z-"),
        many_ranges=get(b"Range: bytes=" + b",".join([b"0-9"] * 1000)),
    ),
    *[Case(name, "6585 5", data, frozenset({431})) for name, data in {
        "long_value": get(b"X: " + b"y" * 100_000), "long_name": get(b"X" * 100_000 + b": y"),
        "many_fields": get(*[b"X%d: y" % n for n in range(10_000)]),
        "long_cookie": get(b"Cookie: a=" + b"b" * 65_000)}.items()],
    *bad(
        "9112 6.2", negative=sized(b" -5"), minus_zero=sized(b" -0"), plus=sized(b" +5"),
        octal=sized(b" 0o5"), hexadecimal=sized(b" 0x5"), underscore=sized(b" 1_0"),
        inner_space=sized(b" 5 5"), empty_length=sized(b" "), words=sized(b" five"),
        huge=sized(b" 99999999999999999999"), listed=sized(b" 5, 5"), differing=sized(b" 5, 6"),
        twice=post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        unlike=post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    ),
    *good(
        "9112 6.2", length=sized(b" 5"), unspaced=sized(b"5"), trailing=sized(b" 5 "),
        more_space=sized(b"   5"), tabbed=sized(b"\t5"), zero=sized(b" 0", b""), bodiless=post(),
        get_with_body=get(b"Content-Length: 5") + b"hello",
    ),
    *[Case(name, "9112 6.2", data, OK | BAD) for name, data in {
        "zeros_before": sized(b" 005"), "two_zeros": sized(b" 00", b"")}.items()],
    Case("too_much", "9110 15.5.14", sized(b" 999999999", b""), frozenset({408, 413})),
    *[Case(name, "9112 6.1", data, frozenset({400, 501})) for name, data in {
        "with_length": coded(b" chunked", b"Content-Length: 5"),
        "length_first": post(b"Content-Length: 5", b"Transfer-Encoding: chunked",
                             body=b"0\r\n\r\n"),
        "unknown_coding": coded(b" xchunked"), "identity": coded(b" identity"),
        "not_last": coded(b" chunked, gzip"), "compressed": coded(b" gzip, chunked"),
        "twice_coded": coded(b" chunked, chunked"), "two_codings": coded(
            b" chunked", b"Transfer-Encoding: identity"),
        "leading_comma": coded(b" , chunked"), "trailing_comma": coded(b" chunked,"),
        "parameters": coded(b" chunked;a=b"), "vertical": coded(b" \x0bchunked"),
        "form_feed": coded(b" \x0cchunked"), "nul_after": coded(b" chunked\0"),
        "nothing": coded(b""), "folded": coded(b"\r\n chunked"),
        "name_space": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
        "of_1.0": head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    }.items()],
    *good(
        "9112 6.1", coded=coded(b" chunked"), case=coded(b" CHUNKED"), tab=coded(b"\tchunked"),
        coded_upper=post(b"TRANSFER-ENCODING: chunked", body=b"0\r\n\r\n"),
    ),
    *bad(
        "9112 7.1", spaced_size=chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
        space_after=chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
        signed=chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
        below_zero=chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
        prefixed=chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
        scored=chunked(b"1_0\r\nhello\r\n0\r\n\r\n"), no_size=chunked(b"\r\nhello\r\n0\r\n\r\n"),
        overflow=chunked(b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n"),
        spilt=chunked(b"5\r\nhello, you\r\n0\r\n\r\n"), unended=chunked(b"5\r\nhello0\r\n\r\n"),
        cr_ended=chunked(b"5\rhello\r\n0\r\n\r\n"),
        nul_extension=chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n"),
        cr_extension=chunked(b"5;a\rX\r\nhello\r\n0\r\n\r\n"),
        no_extension=chunked(b"5;\r\nhello\r\n0\r\n\r\n"),
        odd_extension=chunked(b"5;@=b\r\nhello\r\n0\r\n\r\n"),
        host_trailer=chunked(b"5\r\nhello\r\n0\r\nHost: u\r\n\r\n"),
        length_trailer=chunked(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
        coding_trailer=chunked(b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ),
    *[Case(name, "9112 2.2", data, BAD | OK) for name, data in {
        "lf_extension": chunked(b"5;a\nhello\r\n0\r\n\r\n"),
        "lf_chunk": chunked(b"5\r\nhello\n0\r\n\r\n"),
        "lf_trailer": chunked(b"5\r\nhello\r\n0\r\n\n")}.items()],
    *good(
        "9112 7.1", chunks=chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), none=chunked(b"0\r\n\r\n"),
        upper=chunked(b"A\r\nhello, you\r\n0\r\n\r\n"),
        extension=chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        quoted=chunked(b'5;a="b c"\r\nhello\r\n0\r\n\r\n'),
        zeros_size=chunked(b"005\r\nhello\r\n000\r\n\r\n"),
        trailer=chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    ),
    Case("long_extension", "9112 7.1.1",
    chunked(b"5;a=" + b"b" * 65_536 + b"\r\nhello\r\n0\r\n\r\n"),
         OK | BAD | {413, 431}),
    Case("expect_other", "9110 10.1.1", post(b"Expect: tea", b"Content-Length: 0"),
         frozenset({400, 417})),
    *good(
        "9110 7.8", unknown_upgrade=get(b"Connection: Upgrade", b"Upgrade: tea/1"),
        lone_upgrade=get(b"Upgrade: websocket"),
        h2c=post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A",
                 b"Content-Length: 5", body=b"hello"),
        old_upgrade=head(b"GET / HTTP/1.0", b"Connection: Upgrade", b"Upgrade: websocket"),
    ),
    # What follows a body is another request, what is left of a refused one is none.
    Case("two_in_one", "9112 9.3.2", sized(b" 5") + get(), OK, answers=2),
    Case("prefix_in_body", "9112 9.3", get(b"Content-Length: 9") + b"GET /x HT" + get(), OK,
         answers=2),
    Case("hidden_behind_both", "9112 6.1", coded(b" chunked", b"Content-Length: 5") + get(), BAD),
    Case("hidden_in_length", "9112 6.1",
         post(b"Content-Length: 60", b"Transfer-Encoding: chunked",
              body=b"0\r\n\r\n" + get() + b"x" * 40), BAD),
    Case("hidden_by_sign", "9112 6.2", sized(b" +5") + get(), BAD),
    Case("hidden_by_list", "9112 6.2", sized(b" 5, 0") + get(), BAD),
    Case("hidden_by_fold", "9112 5.2",
         post(b"Transfer-Encoding:", b" chunked", b"Content-Length: 5",
         body=b"hello") + get(), BAD),
    Case("hidden_by_size", "9112 7.1", chunked(b"+0\r\n\r\n") + get(), BAD),
    Case("poisoned", "9112 6.2", sized(b" 0", b"X") + get(), OK | BAD, answers=2),
]
