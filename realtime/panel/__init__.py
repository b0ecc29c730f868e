"""The local web page: watch a live run and steer it from a browser or an OBS browser dock.

`server.Panel` opens and closes it, `app` holds the API, `guard` says who may speak to it.
"""
