"""What gunicorn serves: `gunicorn -c gunicorn.conf.py wsgi:app`."""

from pulse.app import create_app

app = create_app()
