"""Published networks in other formats: ONNX, LiteRT and Keras, from ids on."""
