"""Celery's settings, read when the app is first used: those whose defaults do not suit us."""

from __future__ import annotations

import re

from django.conf import settings

_url = settings.BROKER_URL or ""
_is_amqp = _url.startswith(("amqp", "pyamqp"))

broker_url = re.sub(r"^valkey", "redis", _url)  # kombu only knows the protocol's older name
result_backend = None
task_ignore_result = True
task_store_errors_even_if_ignored = False

accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"
event_serializer = "json"

task_acks_late = False  # leases recover what is lost, not the broker
task_reject_on_worker_lost = False
task_create_missing_queues = False
task_default_queue = "control"
task_default_delivery_mode = "transient"
task_send_sent_event = False

worker_prefetch_multiplier = 1
# `workers.bells` does it, also counting slots that Celery does not know about
worker_disable_prefetch = False
worker_cancel_long_running_tasks_on_connection_loss = False
worker_enable_remote_control = False
worker_send_task_events = False
worker_hijack_root_logger = False
worker_redirect_stdouts = False
worker_detect_quorum_queues = False
worker_proc_alive_timeout = 30

broker_connection_timeout = 4
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_channel_error_retry = True
broker_pool_limit = 10
broker_heartbeat = 10 if _is_amqp else 0
broker_transport_options = (
    {"confirm_publish": False, "write_timeout": 10}
    if _is_amqp
    else {
        "visibility_timeout": 600,
        "socket_timeout": 10,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
        "global_keyprefix": "stroem:",
    }
)
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
