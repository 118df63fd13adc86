"""The expected error that `estimate` names follows from figures, by kind of model."""

from vramscope.predict.scores import ModelKind, Score, expected_error, read_scores

CONVOLUTIONAL = ModelKind.CONVOLUTIONAL


def score(source, measured, predicted, kind=CONVOLUTIONAL):
    return Score(kind, source, "a", "allocated", measured, predicted)


def test_the_range_and_the_sign_of_errors():
    scores = [score("published", 1000, 900), score("published", 1000, 1010), score("recorded", 200, 201)]
    # 900 for 1000 is a tenth too low; 1010 one percent too high; 201 for 200 half a percent
    assert expected_error(CONVOLUTIONAL, scores) == (
        "1 figure of recorded steps of this kind was missed by +0.50% to +0.50%, none predicted too low; "
        "2 published figures were missed by -10.00% to +1.00%, 1 predicted too low"
    )


def test_predictions_without_error_are_called_exact():
    scores = [score("recorded", 200, 200), score("recorded", 300, 300)]
    assert expected_error(CONVOLUTIONAL, scores) == (
        "all 2 figures of recorded steps of this kind were predicted exactly; no published figures to compare with"
    )


def test_a_kind_that_was_never_compared_says_so():
    assert "unknown" in expected_error(ModelKind.RECURRENT, [score("recorded", 1, 1)])


def test_what_is_kept_can_be_read():
    scores = read_scores()
    assert {row.source for row in scores} == {"recorded", "published"}
    assert all(row.measured_bytes > 0 for row in scores)
