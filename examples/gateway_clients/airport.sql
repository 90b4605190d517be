-- Reads what sheaf-gateway has of a topic from DuckDB, by its community extension Airport.
INSTALL airport FROM community;
LOAD airport;

SELECT level, count(*)
FROM airport_take_flight('grpc://localhost:8080/', ['logs'])
GROUP BY level;
