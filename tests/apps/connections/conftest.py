from tests.apps.api.conftest import quick_hashes as quick_hashes
