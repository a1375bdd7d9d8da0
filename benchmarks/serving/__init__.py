"""The service against LitServe, Ray Serve and BentoML hosting the same two sessions.

::

    __main__      the command: tunes, measures, writes
    environments  one virtual environment for each rival
    servers       starts and stops a server, knows how to ask it
    app_*         the rivals' programs, each as its documentation advises
    hosted        what all rivals host: the service's decoding, the bundle's two sessions
    arrivals      when which clip is asked for at which sparsity
    client, load  the load generator; latency counts from when a request was due
    points        what is said of a run
"""
