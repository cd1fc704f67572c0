"""Requests and answers: each shape documents an answer and renders it. A field names its origin in
`source`; computed values are properties of the rows beside the shape."""
