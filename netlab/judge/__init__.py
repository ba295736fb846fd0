"""What is expected of a lab, judged by asking: who answers, by which path, how fast.

`ends` says who is meant, `questions` asks and hears, `paths` reads how the overlay gets there,
`rate` moves bytes, `judge` puts them together, `timeline` does it while things happen, `verdict`
is what comes out.
"""
