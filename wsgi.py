"""What gunicorn serves: `gunicorn -c gunicorn.conf.py wsgi:app`."""

import sys

from pulse.app import create_app
from pulse.errors import ConfigError
from pulse.web.waiting import serve_when_ready

try:
    app = serve_when_ready(create_app)
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(4)  # gunicorn's status for an application that can't be loaded: it does not try again
