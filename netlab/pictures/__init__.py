"""Pictures of a lab: SVG for people, Mermaid and Graphviz for documents. Pure."""
