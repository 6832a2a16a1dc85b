"""How good, fair and robust a model is, from counts that add up over clients: no record is needed.

Clients count (`count`), counts travel (`to_record`, `from_records`) and are summed, and
`metric_rows` and `honest_rows` make the tidy table of a run from them. The metrics themselves are
functions of counts with scikit-learn's and fairlearn's names, in `performance` and `fairness`.
"""

from __future__ import annotations

from fedmodel.evaluation.counts import count, from_records, to_record
from fedmodel.evaluation.robustness import aggregate_share, honest_rows
from fedmodel.evaluation.tables import metric_rows

__all__ = ["aggregate_share", "count", "from_records", "honest_rows", "metric_rows", "to_record"]
