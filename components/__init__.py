"""The library of rcvit: plain typed functions. Nothing in here imports prefect or `flows`.

Importing the package switches off every tool's telemetry and keeps the Hugging Face libraries
off the network, for each process of ours and whatever it starts. A value that the user set wins.
"""

import os

QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}

for _name, _value in QUIET_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
