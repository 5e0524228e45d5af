"""The passes from messages to the Graph, in their order.

``upgrade`` (legacy formats to the modern one), ``filter_phase``, ``remove_splits``,
``resolve`` (layers and single assignment), ``data_layers``, ``build`` (shapes, weights).
"""
