"""A whole VPC as config/vpc/whole-vpc.yaml makes it: two tasks with the template's configuration, each in a network of its
own, and a Network Load Balancer with two addresses in front of them.

Port 53 of either address leads to port 5300 of a healthy task, chosen for each flow; health is what /ready of a task's own
address says, as often as the target group asks.
"""

import ssl
import threading
import time
from pathlib import Path

from .ecs_task import IN_A_TASK
from .processes import Process, ProcessError, run, wait_until
from .templates import Template
from .world import CENTRAL, TARGETS

VPCE = "vpce-0a0a0a0a0a0a0a0a0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com"
DNS_NAME = "dns.interop.test"
TASKS = ["10.53.3.101", "10.53.3.102"]
#: `upstream.public` of the template; BIND answers there over HTTPS.
PUBLIC_DNS = ["1.1.1.1", "8.8.8.8"]
