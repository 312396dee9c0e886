"""Page in the browser for published models: `python -m app.demo`.

catalogue   the models, local or on a server
api         requests and responses of the page, in JSON
curl        the same request to TensorFlow Serving as a line for a shell
http_server the server: bounded, and without a log
page/       the page; its `views/` show responses by the names of their outputs
"""
