"""Pictures in a page: read back by Pillow, a machine can say what they are of."""

import base64
import io
import re

import numpy as np
from PIL import Image

from fedmodel.runs.page import Page, Pictures, Section


def test_pictures_are_what_was_given_dark_where_it_was_high():
    given = np.random.default_rng(0).random((5, 3))
    block = Pictures(caption="Some", lines=[("original <1>", [given, np.full((2, 2), np.nan)])])
    section = Section(title="S", blocks=[block])
    page = Page(title="T", about=[], headline="H", sections=[section]).render()
    first, second = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">', page)
    assert first[1] == "original &lt;1&gt;, picture 1"
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(first[0]))))
    np.testing.assert_allclose(read / 255, 1 - given, atol=0.5 / 255 + 1e-9)
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(second[0])))).min() == 255
