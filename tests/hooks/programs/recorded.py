"""Reads one run of a trace with nothing but zarr, the way docs/trace-format.md says."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import zarr


class Recorded:
    """The first run of a trace."""

    def __init__(self, store):
        self.run = zarr.open_group(str(store), mode="r")["run-0"]
        self.about = dict(self.run.attrs["run"])
        self.table = {(t["role"], t["name"]): t for t in self.about["tensors"]}
        self.steps = int(self.run["progress"][0])
        self.versions = {name: self.run[name + "/version"][:] for name in ("state", "observed")}
        self.external = len(self.run["external/step"][:])

    def names(self, role):
        """The names of a role's tensors, in the order of the table."""
        return [t["name"] for t in self.about["tensors"] if t["role"] == role]

    def state(self, row, role, name):
        """A weight or slot: row k is before step k, row k + 1 after it."""
        return self._value(self.table[role, name], "state", row)

    def observed(self, step, role, name):
        """What a step saw; a dense array, or (values, rows) where the gradient is sparse."""
        line = self.table[role, name]
        if line["same_as"]:
            line = self.table[line["same_as"], name]
        return self._value(line, "observed", step)

    def _value(self, line, table, row):
        version = int(self.versions[table][row, line["column"]])
        path = "/".join(quote(part, safe="") for part in line["path"].split("/"))
        stored = self.run[line["path"] if line["path"] in self.run else path]
        if line["layout"] == "fixed":
            return stored[version]
        shapes = [[n for n in shape if n >= 0] for shape in stored["shape"][:].tolist()]
        sizes = [int(np.prod(shape)) for shape in shapes]
        first = sum(sizes[:version])
        value = stored["data"][first : first + sizes[version]].reshape(shapes[version])
        if line["layout"] == "ragged":
            return value
        first = sum(shape[0] for shape in shapes[:version])
        return value, stored["rows"][first : first + shapes[version][0]]


def densified(gradient, shape):
    """A gradient as a dense array: repeated rows are added."""
    if not isinstance(gradient, tuple):
        return gradient
    values, rows = gradient
    dense = np.zeros(shape, values.dtype)
    np.add.at(dense, rows, values)
    return dense
