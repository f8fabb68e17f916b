"""Room for the parts that are useful alone: gateway, shadow, drift, failure analysis, pull requests.

Nothing is built here yet; the layer exists so that imports already point the right way.
"""
