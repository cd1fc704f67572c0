"""A worker, and the brokers that attacks write to."""

from tests.workers.conftest import bench, celery_app
from tests.workers.test_rabbitmq import rabbit

__all__ = ["bench", "celery_app", "rabbit"]
