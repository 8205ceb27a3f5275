"""What load balancers and monitors ask a process of the site: /healthz, /readyz and /metrics.

middleware       the three answers
examiner         dbhealth on a connection of its own
single_flight    work that many wait for, and one thread does
"""
