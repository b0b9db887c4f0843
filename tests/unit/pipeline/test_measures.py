"""Self-telemetry: the names and attributes that the telemetry contract promises."""

from otel_oom.pipeline import accounting, measures
from otel_oom.pipeline.data import Signal


def measured(ledger):
    return {
        (one.name, *(value for _, value in one.attributes)): one
        for one in measures.measurements(ledger)
    }


def test_the_table_becomes_the_collectors_names_with_our_prefix():
    ledger = accounting.Ledger()
    ledger.produced("oom", Signal.LOGS, 4)
    ledger.produced("oom", Signal.TRACES, 3)
    ledger.delivered("otlp_grpc/a", Signal.LOGS, 2)
    ledger.rejected("otlp_grpc/a", Signal.LOGS, 1)
    ledger.dropped("batch", Signal.LOGS, 1, "queue_full")
    ledger.count("exporter_send_failed", "otlp_grpc/a", Signal.METRICS, 5)
    ledger.count("kernel_lost", "oom", Signal.LOGS, 6)
    ledger.gauge("exporter_queue_size", "otlp_grpc/a", lambda: 7)
    ledger.gauge("oom_reconcile_difference", "oom", lambda: -1)
    ledger.gauge("event_loop_lag_s", "", lambda: 0.25)

    found = measured(ledger)

    values = {key: one.value for key, one in found.items()}
    assert values[("otel_oom_receiver_accepted_log_records", "oom")] == 4
    assert values[("otel_oom_receiver_accepted_spans", "oom")] == 3
    assert values[("otel_oom_exporter_sent_log_records", "otlp_grpc/a")] == 2
    assert values[("otel_oom_rejected", "otlp_grpc/a", "logs")] == 1
    assert values[("otel_oom_dropped", "batch", "logs", "queue_full")] == 1
    assert values[("otel_oom_exporter_send_failed_metric_points", "otlp_grpc/a")] == 5
    assert values[("otel_oom_kernel_lost", "oom", "logs")] == 6
    assert values[("otel_oom_exporter_queue_size", "otlp_grpc/a")] == 7
    assert values[("otel_oom_oom_reconcile_difference", "oom")] == -1
    assert values[("otel_oom_event_loop_lag_s",)] == 0.25
    assert found[("otel_oom_event_loop_lag_s",)].unit == "s"
    assert found[("otel_oom_receiver_accepted_spans", "oom")].kind == "counter"


def test_a_queue_tells_what_it_holds_of_each_weight():
    ledger = accounting.Ledger()
    depths = {10: accounting.Depth(1, 2, 3, 4.5), 3: accounting.Depth(5, 6, 7)}
    ledger.queue("otlp_grpc/a", lambda: depths)

    found = {
        (one.name.removeprefix("otel_oom_exporter_queue_"), one.attributes[1:]): (
            one.value,
            one.unit,
        )
        for one in measures.measurements(ledger)
        if one.attributes[:1] == (("exporter", "otlp_grpc/a"),)
    }

    kills, metrics = ((("weight", "10"),), (("weight", "3"),))
    assert found == {
        ("requests", kills): (1, "{request}"),
        ("items", kills): (2, "{item}"),
        ("bytes", kills): (3, "By"),
        ("oldest_s", kills): (4.5, "s"),
        ("requests", metrics): (5, "{request}"),
        ("items", metrics): (6, "{item}"),
        ("bytes", metrics): (7, "By"),
    }
    ledger.forget_readers()
    assert list(ledger.depths()) == []


def test_what_one_id_holds_in_several_pipelines_is_one_number():
    ledger = accounting.Ledger()
    ledger.hold("batch", lambda signal: 2 if signal is Signal.LOGS else 0)
    ledger.hold("batch", lambda signal: 3 if signal is Signal.LOGS else 0)

    found = measured(ledger)[("otel_oom_held", "batch", "logs")]

    assert (found.value, found.kind) == (5, "gauge")
    assert ledger.balance(Signal.LOGS).held == 5


def test_what_was_delivered_and_also_counted_as_sent_is_told_once():
    ledger = accounting.Ledger()
    ledger.delivered("otlp_grpc", Signal.LOGS, 2)
    ledger.count("exporter_sent", "otlp_grpc", Signal.LOGS, 2)

    names = [one.name for one in measures.measurements(ledger)]

    assert names.count("otel_oom_exporter_sent_log_records") == 1


def test_the_readers_of_a_graph_that_is_gone_are_forgotten_its_counts_are_not():
    ledger = accounting.Ledger()
    ledger.delivered("debug", Signal.LOGS, 1)
    ledger.hold("batch", lambda _: 0)
    ledger.gauge("exporter_queue_size", "debug", lambda: 1)
    ledger.forget_readers()

    found = measured(ledger)

    assert ("otel_oom_held", "batch", "logs") not in found
    assert ("otel_oom_exporter_queue_size", "debug") not in found
    assert ("otel_oom_exporter_sent_log_records", "debug") in found


def test_the_process_is_measured_too():
    values = {key[0]: one.value for key, one in measured(accounting.Ledger()).items()}

    assert values["otel_oom_process_memory_rss"] > 1_000_000
    assert values["otel_oom_process_cpu_seconds"] > 0
    assert values["otel_oom_process_uptime"] > 0
