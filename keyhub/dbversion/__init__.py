"""Versions of the whole project, in one linear order, over the migrations of its apps.

version_list  the committed list, keyhub/versions.txt, and what can be wrong with it
digests       what a migration says, apart from comments and layout
database      at which version a database is, and how to bring it to another
"""
