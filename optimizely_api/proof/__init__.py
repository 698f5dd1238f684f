"""`optimizely-api prove`: random faults of every kind against gateways and services, and a judgement of every response.

command     options, exit status
proof       the order of a run
options     what can be chosen
rig         services, the proxies before them, gateways and balancer
proxy       a proxy between gateway and service that delays, cuts and falsifies responses
faults      the kinds of faults, and the plan of a run, from its seed
injection   carries out a plan
account     the account that is asked about, and the questions with their right answers
load        requests at a constant rate, and a writer that repeats each write until it is acknowledged
judge       what is wrong with a response
tally       counts, intervals, and the report
"""
