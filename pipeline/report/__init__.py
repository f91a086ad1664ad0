"""Report: one HTML page that shows what a store holds, and where teacher and people disagree.

Here: one pass over the store, what it tells, and the page. May import `running`, `checking`, and the floors below.
"""
