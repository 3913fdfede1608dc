import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.edge.cursor import BadCursor, Cursor, cursor_tag, read_cursor, write_cursor

ID, OTHER = "0192d2c0-0000-7000-8000-000000000001", "0192d2c0-0000-7000-8000-000000000002"
SEQS = st.integers(0, 2**48 - 1)
OFFSETS = st.integers(0, 2**60 - 1)


@given(SEQS, OFFSETS, st.text(max_size=20))
def test_a_cursor_is_read_back(seq: int, offset: int, tenant: str) -> None:
    text = write_cursor(seq, offset, cursor_tag(ID, tenant))
    assert read_cursor(text, ID, tenant) == Cursor(seq, offset)
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(("request_id", "tenant"), [(OTHER, "demo"), (ID, "other")])
def test_another_stream_or_tenant_is_told(request_id: str, tenant: str) -> None:
    cursor = write_cursor(3, 7, cursor_tag(ID, "demo"))
    with pytest.raises(BadCursor, match="another stream"):
        read_cursor(cursor, request_id, tenant)


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f.]{1,40}", fullmatch=True))
def test_any_text_is_a_place_or_a_bad_cursor(text: str) -> None:
    try:
        place = read_cursor(text, ID, "demo")
    except BadCursor:
        return
    assert text.endswith(cursor_tag(ID, "demo"))
    assert min(place) >= 0


@pytest.mark.parametrize("text", ["", "1.2", "1.2.3", "-1.2.00000000", "1.2.00000000\n", "٣.2.00000000", "1" * 400])
def test_what_has_not_the_form_is_refused(text: str) -> None:
    with pytest.raises(BadCursor, match="not one of this server's"):
        read_cursor(text, ID, "demo")
