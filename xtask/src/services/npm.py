"""Fetches one file of one npm package: REGISTRY PACKAGE VERSION FILE TARGET."""

import base64
import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request

registry, package, version, wanted, target = sys.argv[1:]
name = urllib.parse.quote(package, safe="@")
with urllib.request.urlopen(f"{registry.rstrip('/')}/{name}/{version}", timeout=60) as answer:
    stated = json.load(answer)["dist"]
algorithm, _, digest = stated["integrity"].partition("-")
if algorithm not in ("sha256", "sha384", "sha512"):
    sys.exit(f"{package}@{version}: the registry states no hash that can be trusted: {algorithm}")
with tempfile.TemporaryFile() as archive:
    found = hashlib.new(algorithm)
    with urllib.request.urlopen(stated["tarball"], timeout=60) as answer:
        while chunk := answer.read(1 << 20):
            found.update(chunk)
            archive.write(chunk)
    if found.digest() != base64.b64decode(digest):
        sys.exit(f"{package}@{version}: the archive has not the {algorithm} that the registry states")
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:gz") as members:
        for member in members:
            if member.isfile() and os.path.basename(member.name) == wanted:
                # Under another name until it is whole.
                with open(target + ".part", "wb") as out:
                    shutil.copyfileobj(members.extractfile(member), out)
                os.replace(target + ".part", target)
                sys.exit(0)
sys.exit(f"{package}@{version} holds no {wanted} any more")
