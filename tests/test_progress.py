"""What a stage says of itself in a log."""

import pytest

from understudy import progress


def test_a_first_step_that_takes_long_is_waited_for_and_then_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0)
    with progress.track("finetune", 4, "steps") as advance:
        advance(0)  # a start, before anything is known of the speed
        assert capsys.readouterr().err == ""
        advance(2)
        assert "finetune: 2/4 steps" in capsys.readouterr().err
        advance(2)
        assert capsys.readouterr().err == ""
