#!/usr/bin/env python3
"""Writes tests/data/config/yaml_scalars.txt: YAML documents and what the real
PyYAML makes of them, one a line: the document as JSON text, a tab, the value.

    pip install pyyaml && tests/python/yaml_scalars.py

`src/config/tests.rs` holds our reader to this table. Values are written as
`str"..."`, `int 83`, `float <bits in hex>`, `bool True`, `none`, `time`,
`bytes <hex>`, `[a, b]`, `{key: value, ...}` with sorted keys, or `error` where
PyYAML raises.
"""
import datetime
import json
import pathlib
import random
import struct

import yaml

SCALARS = """
yes Yes YES yEs no No NO nO true True TRUE tRUE false False FALSE on On ON oN off Off OFF y n Y N
0 1 -1 +1 -0 +0 00 01 0123 08 09 0789 -017 +017 0o17 0_ 01_7 1_000 1__0 _1 1_ 12345678901234567890
340282366920938463463374607431768211456 -170141183460469231731687303715884105727
0b101 0b 0b_ 0b2 -0b11 0b1_0 0x1F 0xg 0x 0x_ -0xff 0X1F 0xfFfF_0 1e3 1E3 1e+3 1.0e3 1.0e+3 1.e+3 1.E-2
1.5 1. .5 -.5 +.5 -1.5 +1.5 1_0.5_0 1.5_ ._5 .5_ . .. ... -. +. 1.2.3 .inf .Inf .INF .iNF -.inf +.inf
.nan .NaN .NAN -.nan inf nan 1.5e 1.5e+ 1.5e- 1.5e+1_0 .5e+1 .5e1 0.1 0.4 1.4 3.5 00.5 09.5
1:30 1:3 1:60 1:59:59 01:30 0:30 -1:30 +1:30 1:30.5 1:30.25 01:30.5 1:30: :30 1:2:3:4 190:20:30 1_0:30
190:20:30.15 0:0.5 1:30.5e+1 10:59 10:5010 127.0.0.1:2222 10.0.0.9:2222 localhost:2222 ::1:5010 fe80::1:5010
~ null Null NULL nULL None nil - -- = << < > >= <<<
2024-01-01 2024-1-1 2024-01-01T10:00:00 2024-1-1T1:00:00Z 2024-01-01t10:00:00.5+01:00 2024-01-01T10:00:00.+1
2024-01-01T1:0:0 2024-01-01T10:00 20240101 2024-01 2024-01-01Z 2024-01-01T10:00:00-1:30 2024-01-01T10:00:00+001
a a:b a#b a:1 @a `a` %a &a *a !a |a >a 'a' "a" ' ' '' "" '0123' "0123" 'yes' "1:30" '~' '<<' '=' "=" a'b a"b
"\\x41\\u00e9\\t\\n" "\\/" '\\n' "a\\
b" é ü€ 日本
!!str !!null !!int !!bool ! !!seq !!map
""".split("\n")

WHOLE = [
    "2024-01-01 10:00:00", "2024-1-1 10:00:00 Z", "2024-01-01 10:00:00 +1:00", "2024-01-01  10:00:00.12  Z",
    "!!str 0123", "!!str yes", "!!str ~", "!!int '0123'", "!!int 12", "!!int a", "!!int ''", "!!float 1", "!!float 1e3",
    "!!float a", "!!bool yes", "!!bool YeS", "!!bool 1", "!!bool a", "!!null a", "!!null ''", "! 0123", "! '0123'",
    "! yes", "! \"1:30\"", "! a", "!local a", "!<tag:yaml.org,2002:str> 12", "!<!local> a", "!!binary c2VjcmV0",
    "!!binary 'c2Vj cmV0'", "!!binary ''", "!!binary /w==", "!!timestamp 2024-01-01", "!!timestamp a", "!!merge a",
    "!!value a", "!!python/object:os.system a", "!!set {a, b}", "!!foo a", "!!str [a]", "!!map [a]",
    "a b", "a  b", "a #b", "a# b", "# b", " 12 ", "12 # twelve", "yes # really", "'it''s'", "\"a\\\"b\"",
    "|\n  0123\n  yes\n", ">\n  a\n  b\n", "|-\n  12\n", "|+\n  12\n\n", ">-\n  12\n  13\n",
    "[]", "[a, 0123, yes, ~, '1']", "[127.0.0.1:2222, 10.0.0.2:2222]", "['127.0.0.1:2222','10.0.0.2:2222']",
    "[a:1,b:2]", "[a: 1, b: 2]", "[1:30, 2:30]", "{a: 1, b: yes}", "{a, b}", "{}", "[[a], [b]]", "[a, ]",
    "\n  - a:1\n  - b:2", "\n- a\n- b", "\n  - a\n  - b: 1\n    c: 2",
]

DOCUMENTS = [
    "", "# only\n", "---\n", "--- a", "a\n...\n", "---\na: 1\n---\nb: 2\n", "a: 1\n---\n", "a: 1\n...\n---\nb: 2\n",
    "a: 1\na: 2\n", "a: 1\nb: 2\na: 3\n", "yes: 1\non: 2\n", "1: a\n'1': b\n", "~: a\n", "? a\n: b\n", "? [a]\n: b\n",
    "? {a: b}\n: c\n", "a:\n", "a:\nb:\n", "a: b: c\n", "a: [b\n", "a: 'b\n", "a:\n\tb: 1\n", "a : 1\n", "a:1\n",
    "&x a: &y b\nc: *y\n*x : d\n", "a: &x [1, 2]\nb: *x\n", "a: *x\n", "a: &x [*x, *x]\n",
    "a: &x 0123\nb: *x\n", "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n", "a: &x {p: 1}\nb:\n  q: 3\n  <<: *x\n  p: 4\n",
    "a: &x {p: 1, q: 1}\nb: &y {p: 2, r: 2}\nc: {<<: [*x, *y], r: 9}\n", "a: &x {p: 1}\nb: &y {p: 2}\nc:\n  <<: *x\n  <<: *y\n",
    "a: {<<: 1}\n", "a: {<<: [1]}\n", "a: {<<: []}\n", "a: {<<: {b: 1}}\n", "a: {'<<': {b: 1}}\n", "a: [<<]\n", "a: {b: <<}\n",
    "a: {=: 1}\n", "a: {b: =}\n", "a: &x {p: 1}\nb: &y {<<: *x, q: 2}\nc: {<<: *y}\n",
    "a: {<<: ~}\n", "- a\n- b\n", "a\n", "12\n", "a: 1\n b: 2\n", "a: 1\r\nb: 0123\r\n", "\ufeffa: 1\n", "a: \x01\n", "a: b\x7f\n",
    "%YAML 1.1\n---\na: 0123\n", "%YAML 1.2\n---\na: 0123\n", "a: \"b\n  c\"\n", "a: b\n  c\n", "a: 'b\n\n  c'\n",
    "raft:\n  data_dir: .\n  self_addr: 127.0.0.1:2222\n  bind_addr: 0.0.0.0:2222\n  partner_addrs:\n"
    "  - 127.0.0.1:2223\n  - 127.0.0.1:2224\n",
    "scope: batman\n#namespace: /service/\nname: postgresql0\n\nrestapi:\n  listen: 127.0.0.1:8008\n"
    "postgresql:\n  pg_hba:\n  - host replication replicator 127.0.0.1/32 md5\n  parameters: {unix_socket_directories: '..'}\n",
]


def canonical(value):
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"bool {value}"
    if isinstance(value, int):
        return f"int {value}" if abs(value) < 2 ** 127 else "int large"
    if isinstance(value, float):
        return "float nan" if value != value else "float " + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "str" + json.dumps(value)
    if isinstance(value, bytes):
        return "bytes " + value.hex()
    if isinstance(value, (datetime.date, datetime.datetime)):
        return "time"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(canonical, value)) + "]"
    if isinstance(value, set):
        value = {key: None for key in value}
    return "{" + ", ".join(sorted(f"{canonical_key(k)}: {canonical(v)}" for k, v in value.items())) + "}"


def canonical_key(key):
    return json.dumps(key) if isinstance(key, str) else str(key)


def read(document):
    try:
        return canonical(yaml.safe_load(document))
    except RecursionError:
        return "error"
    except Exception:
        return "error"


def documents():
    for line in SCALARS:
        for scalar in line.split(" "):
            yield "v: " + scalar
    for text in WHOLE:
        yield "v: " + text
    yield from DOCUMENTS
    # What nobody thought of, of the characters that decide.
    rng = random.Random(20260629)
    for alphabet in ("0123789_+-.:", "01_:.eE+-", "0bxo17fF_", "yesnoYESNOtrufalTRUFAL", "0123456789-T:Z +.", "~nulNUL<=.infaIFA"):
        for _ in range(300):
            scalar = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 7)))
            yield "v: '" + scalar + "'" if rng.random() < 0.02 else "v: " + scalar


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "data" / "config"
    seen = {document: read(document) for document in documents()}
    lines = [f"{json.dumps(document)}\t{value}\n" for document, value in seen.items()]
    (folder / "yaml_scalars.txt").write_text("".join(lines))
    print(f"{len(lines)} documents, PyYAML {yaml.__version__}")


if __name__ == "__main__":
    main()
